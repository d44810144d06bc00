"""From prompts to masks: a panorama's instances along a method's views, and the second look."""
