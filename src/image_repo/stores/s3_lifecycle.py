"""Lifecycle rules of S3: the store itself deletes renditions by their age, and what is left of uploads in parts."""

from __future__ import annotations

from typing import Any

from image_repo.errors import StoreUnavailable
from image_repo.stores.s3_client import S3Client
from image_repo.stores.s3_errors import S3Refusal

#: our rules begin so; those of others stay
_ID = "image_repo "
#: days after which an upload in parts that was never completed is dropped
_ABORT_DAYS = 2


class BucketLifecycle:
    """The lifecycle rules of one bucket."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that the bucket has.

        :raises StoreUnavailable: when they cannot be read, or the store has none at all
        """
        try:
            answer = self._client.call("get_bucket_lifecycle_configuration", Bucket=self._bucket)
        except S3Refusal as error:
            if error.code == "NoSuchLifecycleConfiguration":
                return []
            raise self._explained(error) from error
        return list(answer.get("Rules", []))

    def expire(self, prefix: str, days: int) -> bool:
        """Have the store delete what begins so when it is older. False when that was so already.

        :raises StoreUnavailable: when the store does not allow it
        """
        present = self.rules()
        others = [rule for rule in present if not str(rule.get("ID", "")).startswith(_ID)]
        rules = [*others, *self.rules_for(prefix, days)]
        if _by_id(rules) == _by_id(present):
            return False
        try:
            configuration = {"Rules": rules}
            self._client.call(
                "put_bucket_lifecycle_configuration", Bucket=self._bucket, LifecycleConfiguration=configuration
            )
        except S3Refusal as error:
            raise self._explained(error) from error
        return True

    @staticmethod
    def rules_for(prefix: str, days: int) -> list[dict[str, Any]]:
        """Return our rules: what begins so expires after some days, and uploads in parts that were never completed."""
        everything, abort = {"Prefix": ""}, {"DaysAfterInitiation": _ABORT_DAYS}
        expiry = {"Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}
        return [
            {"ID": f"{_ID}renditions", "Status": "Enabled", **expiry},
            {"ID": f"{_ID}uploads", "Status": "Enabled", "Filter": everything, "AbortIncompleteMultipartUpload": abort},
        ]

    def _explained(self, error: S3Refusal) -> StoreUnavailable:
        if error.http_status in (400, 403, 405, 501):
            advice = "The server sweeps instead."
            return StoreUnavailable(f"Bucket {self._bucket!r} takes no lifecycle rules: {error.detail} {advice}")
        return error


def _by_id(rules: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(rule.get("ID")): rule for rule in rules}
