"""`pano serve`: a page on which panoramas are looked around in and annotated, alone or with others.

    packed, objects   a mask and an object as they are kept; the record of a change
    journal           lines on disk that only grow, whole or not there
    document          the work on one picture or video: replayed, changed, undone
    sheets            what an edit is made on: a picture, or one frame of a video
    messages, edits   what a page may ask for, and what it changes; `video_edits` in a video
    library, desks    the pictures, and those that are open; `tiles` are how a page looks at them
    propagating       objects carried from one frame of a video to others
    carriers          the propagations that are under way
    predictors        what answers clicks and boxes; `worker` is the thread where it does
    exchange          masks from and to COCO, LabelMe and PNG; `exchange_video` for all frames
    sessions, studio  who is here, and the whole without a network
    guard, server     who may ask and how much; HTTP
    page, static/     the page: plain ES modules, no build

Starlette on uvicorn rather than aiohttp: it imports in 0.2 s of CPU, aiohttp's server in 0.5. The
modules are loaded as they are: no build, nothing to install, the source is what runs.
"""
