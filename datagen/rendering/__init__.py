"""One Cycles render of a panorama: settings, passes, the render itself."""
