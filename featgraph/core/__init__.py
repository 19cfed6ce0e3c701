"""Leaves that every room may use: feature keys, results, array types, argument checks, files, progress."""
