"""The functions of `import panoforge`, by subject; they load what they need when called."""
