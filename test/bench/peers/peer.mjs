// What the programs for Node have in common; see ../peer.py.

import { text } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';

// Seconds of CLOCK_MONOTONIC.
const now = () => Number(process.hrtime.bigint()) / 1e9;

// All of it, although the process is about to end.
const print = (value) => new Promise(
  (printed) => process.stdout.write(`${JSON.stringify(value)}\n`, printed));

const [command, ...rest] = process.argv.slice(2);
const numbers = rest.map(Number);

// Enqueue one job after another, by add().
async function enqueue(add, count, gap) {
  const times = [];
  for (let n = 0; n < count; n++) {
    const called = now();
    await add(n);
    times.push([called, now()]);
    if (gap > 0) await setTimeout(gap * (1 + Math.random()));
  }
  await print(times);
}

// Be a worker that start() makes; each job's handler calls what it is given.
async function work(start, count, ...settings) {
  const handled = [];
  await start((n) => {
    handled.push([n, now()]);
    if (handled.length === count) console.log('done');
  }, ...settings);
  console.log('ready');
  await text(process.stdin);
  await print(handled);
}

// Do what the command line says.  Nothing is left to be closed: what the
// library still has under way is not waited for.
export async function run({ init, fill, adder, start }) {
  if (command === 'init') await init();
  else if (command === 'fill') await fill(...numbers);
  else if (command === 'enqueue') await enqueue(await adder(), ...numbers);
  else if (command === 'work') await work(start, ...numbers);
  else throw new Error(`no such command: ${command}`);
  process.exit(0);
}
