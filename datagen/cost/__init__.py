"""What a panorama will take on this machine, before any is made."""
