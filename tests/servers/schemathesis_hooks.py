"""What schemathesis does not know of itself: bodies of the media type of tus are bytes."""

import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
