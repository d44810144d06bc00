"""What a model is shown: frames of a panorama, the methods that choose them, and merging back."""
