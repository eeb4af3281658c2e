"""Where what rsalign logs goes, in a process that is a server."""

import logging
import os


def log_to_stderr() -> None:
    """Shows rsalign's log unless somebody has arranged for it; vLLM does so for its own alone."""
    logger = logging.getLogger("rsalign")
    if logger.level == logging.NOTSET:
        logger.setLevel(os.environ.get("RSALIGN_LOGGING_LEVEL", "INFO"))
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
