"""Does a text name a patient? Anchors from that patient's own header and row, and generic patterns."""
