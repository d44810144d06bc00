"""What a thing is: our categories, and the classes that other label sets have for them."""
