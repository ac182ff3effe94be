# RPostgreSQL, which hands a dbname that holds an equals sign to libpq as a connection string.
library(RPostgreSQL)

writeLines(as.character(packageVersion("RPostgreSQL")))
driver <- dbDriver("PostgreSQL")
input <- file("stdin", "r")
while (length(line <- readLines(input, 1)) > 0) {
  given <- strsplit(paste0(line, "\tend"), "\t")[[1]]
  settings <- sprintf("host=%s port=%s user=app dbname=postgres sslmode=%s", given[1], given[2], given[3])
  if (nzchar(given[4])) settings <- paste0(settings, " sslrootcert=", given[4])
  said <- tryCatch({
    db <- dbConnect(driver, dbname = settings)
    ssl <- dbGetQuery(db, "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()")[1, 1]
    dbDisconnect(db)
    ssl
  }, error = function(error) paste0("-", conditionMessage(error)))
  cat(gsub("\n", "\x1f", said), "\n", sep = "")
}
