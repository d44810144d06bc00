"""Where panoramas are taken: free places, and the set of them that shows most."""
