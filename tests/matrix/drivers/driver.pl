# DBD::Pg.
use strict;
use warnings;
use DBI;
use DBD::Pg;

$| = 1;
print "$DBD::Pg::VERSION\n";
while (my $line = <STDIN>) {
    chomp $line;
    my ($host, $port, $sslmode, $sslrootcert) = split /\t/, $line, -1;
    my $dsn = "dbi:Pg:dbname=postgres;host=$host;port=$port;sslmode=$sslmode";
    $dsn .= ";sslrootcert=$sslrootcert" if $sslrootcert;
    my $db = DBI->connect($dsn, 'app', '', { PrintError => 0, RaiseError => 0 });
    if ($db) {
        my ($ssl) = $db->selectrow_array(
            'select ssl::text from pg_stat_ssl where pid = pg_backend_pid()');
        print "$ssl\n";
        $db->disconnect;
    } else {
        print '-' . DBI->errstr =~ s/\n/\x1f/gr, "\n";
    }
}
