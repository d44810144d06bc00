"""PanoSAM2's three parts (Xiao et al., arXiv 2604.07901) as options of SAM2, one file each.

    decoder   §3.1  convolutions that wrap at the seam; the previous mask fused into the features
    loss      §3.3  mask loss whose pixels are weighted by the local geometry of the panorama
    memory    §3.2  long-short memory: pointers of old frames bring the recent memories in line

`parts` puts the decoder and the memory on a SAM2, under `panosam2.*` in its state dict; a model
without them is plain SAM2, to the bit and in its keys. They are for panoramas shown whole (videos
of `kind: vos`, or `clip.frames_are: panorama`): a perspective view has no seam. The text of the
paper that we have lacks its three equations; what its words leave open is settled in each module's
first paragraph.
"""
