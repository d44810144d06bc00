"""One Cycles render of a panorama: settings, passes, glass, and whether it is accepted."""
