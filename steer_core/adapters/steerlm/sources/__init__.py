"""Conversations with labels, and preferences, from local files in the published layouts."""
