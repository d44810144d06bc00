"""`pano serve`: a local web page on which a panorama is looked around in and segmented by clicks.

    session   what is on the page: the picture, the objects and their clicks, undo; no network
    page      the page itself, one self-contained HTML with the viewer of our reports in it
    server    HTTP: who may ask what, how much, and one computation at a time

The server is the standard library's: one user, a handful of requests a minute, and nothing to
install; aiohttp is here only where Ray's dashboard is.
"""
