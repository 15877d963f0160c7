// graphile-worker, as ../peer.py drives it.  The batch is the local queue, and
// with one completions go together too; 0 is none.

import { Logger, makeWorkerUtils, run as runWorker, runMigrations }
  from 'graphile-worker';
import pg from 'pg';

import { run } from './peer.mjs';

const logger = new Logger(() => () => {});

// An address that says nothing: it is libpq's variables that do.
const connect = (maxPoolSize) => ({
  logger, maxPoolSize, connectionString: 'postgres:///',
});

await run({
  init: () => runMigrations(connect(1)),

  fill: (count) => new pg.Pool().query(
    `SELECT graphile_worker.add_job('nothing', json_build_object('n', n))
     FROM generate_series(0, $1::integer - 1) n`, [count]),

  adder: async () => {
    const utils = await makeWorkerUtils(connect(1));
    return (n) => utils.addJob('nothing', { n });
  },

  start: (handle, concurrency, batch) => runWorker({
    ...connect(concurrency + 4),
    noHandleSignals: true,
    taskList: { nothing: async ({ n }) => handle(n) },
    preset: {
      worker: {
        concurrentJobs: concurrency,
        ...(batch > 0 && {
          localQueue: { size: batch },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        }),
      },
    },
  }),
});
