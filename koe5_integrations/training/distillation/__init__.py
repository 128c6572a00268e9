"""What the recipe `distill` is made of: the teacher's vectors, and the student that learns them."""
