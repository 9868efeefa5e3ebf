"""Trained weights and their manifest."""
