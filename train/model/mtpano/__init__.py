"""MTPano (arXiv 2602.05330): semantics, depth and normals of a panorama by one model.

Built from the paper's text and the facts of `docs/howto/dense.md`; nothing is taken from its
released code. In the order that a picture meets them:

- `vit`, `backbone`: the vision transformer, four of whose layers are read.
- `streams`: two refined copies of each layer, one for what a turn of the camera leaves as it is,
  one for what it turns. `mixer`: the convolutions inside. `rays`: where the tokens look.
- `heads`: a small head for each task, whose features the others may use.
- `bridge`: a stream attends to the features of all tasks, gradients of the other group cut off.
- `dpt`: a neck and a head for each task.
- `model`: all of it. `build`: first weights, and checkpoints in files.
"""
