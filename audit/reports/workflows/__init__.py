"""Rows, tables and files of the workflows, one file each."""
