<?php
// PHP pgsql, or PDO where the first argument says so.
const QUESTION = 'select ssl::text from pg_stat_ssl where pid = pg_backend_pid()';

set_error_handler(function (int $number, string $text): never { throw new Exception($text); });
echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION, '.', PHP_RELEASE_VERSION, "\n";
while (($line = fgets(STDIN)) !== false) {
    [$host, $port, $sslmode, $sslrootcert] = explode("\t", rtrim($line, "\n"));
    $settings = "host=$host port=$port dbname=postgres user=app sslmode=$sslmode";
    $settings .= $sslrootcert ? " sslrootcert=$sslrootcert" : '';
    try {
        if (($argv[1] ?? '') === 'pdo') {
            $db = new PDO('pgsql:' . strtr($settings, ' ', ';'));
            echo $db->query(QUESTION)->fetchColumn(), "\n";
            $db = null;
        } else {
            $db = pg_connect($settings, PGSQL_CONNECT_FORCE_NEW);
            echo pg_fetch_result(pg_query($db, QUESTION), 0, 0), "\n";
            pg_close($db);
        }
    } catch (Exception $error) {
        echo '-', strtr($error->getMessage(), "\n", "\x1f"), "\n";
    }
}
