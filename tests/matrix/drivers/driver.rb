# Ruby pg.
require 'pg'

$stdout.sync = true
puts PG::VERSION
$stdin.each_line do |line|
  host, port, sslmode, sslrootcert = line.chomp.split("\t", -1)
  settings = { host: host, port: port, user: 'app', dbname: 'postgres', sslmode: sslmode }
  settings[:sslrootcert] = sslrootcert unless sslrootcert.empty?
  begin
    db = PG.connect(**settings)
    puts db.exec('select ssl::text from pg_stat_ssl where pid = pg_backend_pid()').getvalue(0, 0)
    db.close
  rescue PG::Error => e
    puts "-#{e.message.tr("\n", "\x1f")}"
  end
end
