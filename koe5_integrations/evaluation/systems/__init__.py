"""What can be evaluated: lexical, dense and hybrid search, and anybody's retriever."""
