"""Pseudo-labels: depth, normals, classes and instances of panoramas by teachers, as samples."""
