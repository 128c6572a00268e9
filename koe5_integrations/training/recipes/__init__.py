"""Recipes: each module has a configuration and, as ``RECIPE``, what makes a run of it ready.

Importing one loads no model library.
"""
