"""The usual service in Python, to compare with.

    service.py URL nonsilent|ends FILE...

Prepares each recording with pydub in a thread, as pydub_pipeline.py does, and
posts it to the server, all at once: asyncio for the waiting, a pool of threads
for the work.  Prints the seconds that all of them took together, from the
first to the last; starting Python is not counted.
"""

import asyncio
import os
import sys
import tempfile
import time

import aiohttp

from pydub_pipeline import prepare


async def transcribe(session, url, source, how, scratch):
    """One recording, from the file to the text."""
    target = tempfile.mktemp(".mp3", dir=scratch)
    await asyncio.to_thread(prepare, source, target, how)
    with open(target, "rb") as file:
        form = aiohttp.FormData({"model": "whisper-1",
                                 "response_format": "verbose_json"})
        form.add_field("file", file.read(), filename="audio.mp3",
                       content_type="audio/mpeg")
    os.unlink(target)
    async with session.post(url + "/audio/transcriptions",
                            data=form) as response:
        response.raise_for_status()
        return (await response.json())["segments"]


async def main(url, how, sources):
    """All recordings."""
    with tempfile.TemporaryDirectory() as scratch:
        async with aiohttp.ClientSession() as session:
            started = time.monotonic()
            await asyncio.gather(*(
                transcribe(session, url, source, how, scratch)
                for source in sources))
            print(time.monotonic() - started)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
