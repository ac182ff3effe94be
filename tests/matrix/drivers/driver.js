// node-postgres.  Its warning about the meaning of sslmode goes to standard error.
const pg = require('pg');
const QUESTION = 'select ssl::text from pg_stat_ssl where pid = pg_backend_pid()';

async function ask(line) {
  const [host, port, sslmode, sslrootcert] = line.split('\t');
  let url = `postgresql://app@${host}:${port}/postgres?sslmode=${sslmode}`;
  if (sslrootcert) url += `&sslrootcert=${encodeURIComponent(sslrootcert)}`;
  try {
    const client = new pg.Client(url);
    client.on('error', () => {});
    await client.connect();
    const { rows } = await client.query(QUESTION);
    await client.end();
    return rows[0].ssl;
  } catch (error) {
    return '-' + `${error} ${error.code ?? ''}`.replaceAll('\n', '\x1f');
  }
}

(async () => {
  console.log(require('pg/package.json').version);
  for await (const line of require('readline').createInterface({ input: process.stdin })) {
    console.log(await ask(line));
  }
})();
