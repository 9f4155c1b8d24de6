"""The nine training objectives, and what they share."""
