"""What a source hands over: things with their categories, and regions for cameras."""
