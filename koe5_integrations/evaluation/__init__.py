"""Measure retrieval: data sets, search and metrics that are pure functions of ranked ids."""
