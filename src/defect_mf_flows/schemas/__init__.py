"""Pydantic documents: what the jobs exchange and the database keeps."""
