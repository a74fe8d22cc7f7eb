// bcoin as a regtest node in memory, with Bitcoin Core's JSON-RPC on the port that is given: node regtest.js PORT
'use strict';

process.env.NODE_BACKEND = 'js'; // nothing compiled
const Module = require('module');
const load = Module._load;
Module._load = (name, ...rest) => (name === 'leveldown' ? {} : load(name, ...rest)); // a native part, for disks only

const { Address, FullNode } = require('bcoin');
const options = { network: 'regtest', memory: true, workers: false, listen: false, noAuth: true };
const node = new FullNode({ ...options, httpPort: Number(process.argv[2]), logLevel: 'none' });

node.miner.addAddress(new Address()); // nobody's
node.open().then(() => console.log('open'));
process.stdin.resume().on('end', () => process.exit()); // ends with the test that started it
