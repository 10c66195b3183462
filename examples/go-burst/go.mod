module goburst

go 1.20
