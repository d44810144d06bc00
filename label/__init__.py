"""Views → teachers → agreement on the sphere: labels for real panoramas and 360° videos."""
