// The rules for the scripts of the page and of the tests. Their layout is prettier's, their types TypeScript's.

import js from '@eslint/js';
import globals from 'globals';

const STATIC = 'src/image_repo/web/static';

export default [
  { ignores: [`${STATIC}/openseadragon/`, `${STATIC}/swagger-ui/`, '.tests/', '.venv/', 'build/'] },
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      'default-param-last': 'error',
      eqeqeq: 'error',
      'no-eval': 'error',
      'no-implied-eval': 'error',
      'no-shadow': 'error',
      'no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'no-use-before-define': ['error', { functions: false, classes: false, variables: false }],
      'no-var': 'error',
      'object-shorthand': 'error',
      'prefer-const': 'error',
      'prefer-template': 'error',
    },
  },
  {
    files: [`${STATIC}/**/*.js`],
    languageOptions: { globals: globals.browser },
    rules: { 'max-lines': ['error', 300], 'max-lines-per-function': ['error', 45] },
  },
  { files: ['**/*.mjs', '*.js'], languageOptions: { globals: globals.node } },
];
