import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['dist*/', 'native/build/', 'node_modules/', 'coverage/'] },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      eqeqeq: 'error',
      'no-console': 'error',
      // One concept a file.
      'max-lines': ['error', 450],
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      // Takes bunyan's own typings for foreign.
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
    },
  },
  {
    // Who names a path below a zone's root may be held there for ever. Only platform/zone-root.ts makes such
    // paths, for processes of their own: everything else has a ZoneRoot, which cannot be opened.
    files: ['src/**/*.ts', 'tools/preflight/*.ts', 'tools/mdatactl/*.ts'],
    ignores: ['src/platform/zone-root.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector:
            ':matches(TemplateElement[value.raw=/\\/root(\\u002f|$)/], Literal[value=/^\\/?root(\\u002f|$)/])',
          message: "A path below a zone's root is platform/zone-root.ts's alone.",
        },
        {
          selector:
            'CallExpression[callee.property.name=/Sync$|^(lstat|stat|open|readFile|watch|realpath)$/] CallExpression[callee.property.name="nameOf"]',
          message: 'This name is for records and the mount table only.',
        },
      ],
    },
  },
  {
    // Mocha's context is reached through `this`, and its callbacks are plain functions.
    files: ['test/**/*.ts'],
    rules: {
      '@typescript-eslint/no-unused-expressions': 'off',
      '@typescript-eslint/only-throw-error': 'off',
    },
  },
  {
    // Programs that talk to a person write to the terminal.
    files: ['tools/**/*.ts'],
    rules: { 'no-console': 'off' },
  },
);
