// Keeps objects and buffers, prints sums of them, and ends by a status of its own.
'use strict';
const kept = new Map();
let sum = 0;
for (let round = 0; round < 20; round++) {
  for (let i = 0; i < 20000; i++) {
    const name = `item ${round} ${i}`;
    kept.set(name, { name, round, values: [i, i * 2, round] });
    if (i % 3 === 0) kept.delete(`item ${round - 1} ${i}`);
  }
}
for (const it of kept.values()) sum = (sum * 31 + it.values[1] + it.name.length) % 1000000007;
const buffers = [];
for (let i = 0; i < 16; i++) buffers.push(Buffer.alloc(1 << 20, i + 1));
const hash = require('crypto').createHash('sha256');
for (const buffer of buffers) hash.update(buffer);
const { deflateSync } = require('zlib');
console.log(kept.size, sum, hash.digest('hex'), deflateSync(Buffer.concat(buffers)).length);
process.exitCode = 3;
