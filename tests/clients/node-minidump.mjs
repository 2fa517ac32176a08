// Sends one event with a minidump through @sentry/node, as a program's crash handler would.
// node node-minidump.mjs DSN DUMP: prints the event's id.
import { readFileSync } from 'node:fs';
import * as Sentry from '@sentry/node';

const [dsn, dump] = process.argv.slice(2);
Sentry.init({ dsn, release: 'node-client@1.2.3', environment: 'tests', defaultIntegrations: false });
const id = Sentry.captureEvent(
  { level: 'fatal', platform: 'native', tags: { 'event.process': 'renderer' }, user: { id: 'u-1' } },
  { attachments: [{ filename: 'crash.dmp', data: readFileSync(dump), attachmentType: 'event.minidump' }] },
);
const sent = await Sentry.flush(20_000);
if (!sent) {
  console.error('expected the event to be sent within 20 s, found it still waiting');
  process.exit(1);
}
console.log(id);
