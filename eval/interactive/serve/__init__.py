"""`pano serve`: a page on which panoramas are looked around in and annotated, alone or with others.

    packed, objects   a mask and an object as they are kept; the record of a change
    journal           lines on disk that only grow, whole or not there
    document          the work on one picture: replayed, changed, undone
    messages, edits   what a page may ask for, and what it changes
    library, tiles    the pictures, and how the page looks at them
    predictors        what answers clicks and boxes; `worker` is the thread where it does
    exchange          masks from and to COCO, LabelMe and PNG
    sessions, studio  who is here, and the whole without a network
    guard, server     who may ask and how much; HTTP
    page, static/     the page: plain ES modules, no build

Starlette on uvicorn rather than aiohttp: it imports in 0.2 s of CPU, aiohttp's server in 0.5. The
modules are loaded as they are: no build, nothing to install, the source is what runs.
"""
