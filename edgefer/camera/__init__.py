"""From a camera or a picture to labelled faces: sources, detectors, tracks, smoothing, overlay, sinks, the app."""
