"""Measuring codecs on files: the bench over pictures, comparison of curves, plots and the demonstration.

Rate is always the bytes of the file, distortion that of the decoded 8-bit picture.
"""
