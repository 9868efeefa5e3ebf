"""Codecs: pictures in, bytes out. `registry.py` finds one by name; one file or folder per system."""
