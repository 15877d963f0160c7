// pg-boss, as ../peer.py drives it, with notifications.

import { PgBoss } from 'pg-boss';

import { run } from './peer.mjs';

const QUEUE = 'nothing';
const ROWS = 2000;

// Whoever only sends needs none of what a worker does beside its jobs.
async function connect(max, working = false) {
  const boss = new PgBoss({
    max, useListenNotify: working, supervise: working, schedule: working,
  });
  boss.on('error', console.error);
  return boss.start();
}

await run({
  init: async () => (await connect(1)).createQueue(QUEUE, { notify: true }),

  fill: async (count) => {
    const boss = await connect(1);
    for (let from = 0; from < count; from += ROWS) {
      const length = Math.min(ROWS, count - from);
      await boss.insert(QUEUE, Array.from({ length },
        (_, n) => ({ data: { n: from + n } })));
    }
  },

  adder: async () => {
    const boss = await connect(2);
    return (n) => boss.send(QUEUE, { n });
  },

  start: async (handle, concurrency, batch) => {
    const boss = await connect(concurrency + 4, true);
    await boss.work(QUEUE, {
      localConcurrency: concurrency,
      batchSize: batch,
      burstWhenBatchFull: batch > 1,
      burstWhenReadyExceeds: 1,
    }, async (jobs) => jobs.forEach(({ data }) => handle(data.n)));
  },
});
