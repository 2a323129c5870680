//! Two views of an image, each a function of (image, pipeline, seed, epoch, example, view) and of nothing else.
