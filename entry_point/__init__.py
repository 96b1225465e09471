"""The entry-point: listens beside the user, opens streams on channels."""
