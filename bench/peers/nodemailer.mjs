// nodemailer, with its pool: connections are kept, commands pipelined. It verifies certificates.
// Speaks as bench/worker.py does: a job in, the seconds it took out, one line of JSON each.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");

let nodemailer, MailComposer, shared;
try {
  nodemailer = require("nodemailer");
  MailComposer = require("nodemailer/lib/mail-composer");
  shared = JSON.parse(process.env.BENCH_MESSAGE);
} catch (error) {
  say({ missing: `nodemailer is not installed (${error.code})` });
  process.exit(0);
}
say({ version: require("nodemailer/package.json").version + ", Node " + process.versions.node });

let number = 0;
function message(job, data) {
  number += 1; // different in every message, so that nothing can be answered from memory
  const own = (text) => text.replace("#", number);
  const made = {
    from: shared.sender,
    to: { name: own(shared.name), address: own(shared.address) },
    subject: own(shared.subject),
    text: own(shared.text),
    html: own(shared.html),
  };
  if (data.length) {
    made.attachments = [{ filename: shared.file_name, contentType: shared.file_type, content: data }];
  }
  return made;
}

async function run(job) {
  const data = Buffer.alloc(job.attachment_bytes, Buffer.from([...Array(256).keys()]));
  const encrypted = job.security === "starttls";
  const transport = nodemailer.createTransport({
    host: job.host,
    port: job.port,
    pool: true,
    maxConnections: job.connections,
    maxMessages: Infinity,
    ignoreTLS: !encrypted,
    requireTLS: encrypted,
    auth: encrypted ? { user: job.username, pass: job.password } : undefined,
    tls: encrypted ? { ca: readFileSync(job.ca_file) } : undefined,
  });
  const started = process.hrtime.bigint();
  const cpuBefore = process.cpuUsage();
  if (job.kind === "build") {
    for (let left = job.count; left > 0; left--) await new MailComposer(message(job, data)).compile().build();
  } else if (job.kind === "bulk") {
    await Promise.all(Array.from({ length: job.count }, () => transport.sendMail(message(job, data))));
  } else {
    for (let left = job.count; left > 0; left--) await transport.sendMail(message(job, data));
  }
  const cpu = process.cpuUsage(cpuBefore);
  // As in bench/worker.py: what is made without a network, by the processor's time.
  const seconds = job.kind === "build" ? (cpu.user + cpu.system) / 1e6 : Number(process.hrtime.bigint() - started) / 1e9;
  transport.close();
  return { seconds };
}

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  if (!["build", "bulk", "web"].includes(job.kind)) say({ reason: "SMTP only" });
  else say(await run(job).catch((error) => ({ error: String(error.stack) })));
}
