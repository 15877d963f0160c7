"""procrastinate, as ../peer.py drives it.  It knows no batches."""

import asyncio
import json
import logging
import os
import random
import sys
import time

import procrastinate

ROWS = 1000

command, *numbers = sys.argv[1], *map(int, sys.argv[2:])

logging.disable(logging.CRITICAL)
connections = numbers[1] + 4 if command == "work" else 1
app = procrastinate.App(connector=procrastinate.PsycopgConnector(
    conninfo="", min_size=1, max_size=connections))
handled = []


@app.task(name="nothing")
async def nothing(n):
    """The handler."""
    handled.append((n, time.monotonic()))
    if command == "work" and len(handled) == numbers[0]:
        print("done", flush=True)


async def fill(count):
    """Jobs that wait."""
    for start in range(0, count, ROWS):
        await nothing.batch_defer_async(
            *({"n": n} for n in range(start, min(start + ROWS, count))))


async def enqueue(count, gap):
    """One job after another."""
    times = []
    for n in range(count):
        called = time.monotonic()
        await nothing.defer_async(n=n)
        times.append((called, time.monotonic()))
        if gap:
            await asyncio.sleep(gap * random.uniform(1, 2) / 1000)
    print(json.dumps(times))


async def work(_count, concurrency, _batch):
    """Be a worker."""
    worker = asyncio.create_task(app.run_worker_async(
        concurrency=concurrency, install_signal_handlers=False))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps(handled), flush=True)
    # What it still has under way is not waited for.
    worker.cancel()
    os._exit(0)


async def main():
    """Do what the command line says."""
    async with app.open_async():
        await {"init": app.schema_manager.apply_schema_async, "fill": fill,
               "enqueue": enqueue, "work": work}[command](*numbers)


asyncio.run(main())
