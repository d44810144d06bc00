"""How a run stands and what it will take, as text and as a page."""
