"""Pages and pictures for people: self-contained HTML reports, the 360° viewer, charts' frame."""
