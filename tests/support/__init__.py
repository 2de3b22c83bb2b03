"""What tests stand on: fakes at the wire, and waiting without sleeping."""
